# Three stages: build the programs, test them, and an image with the programs alone. `docker build .` makes the last one;
# `docker build --target test .` runs the tests. tests/docker/run_in_root.py carries out the same steps without Docker.

FROM debian:12-slim AS build
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN scripts/setup.sh --with build --with torch
COPY . .
RUN scripts/build.sh release sconced sconce sconce-torch-worker -- -DSCONCE_BUILD_TESTS=OFF

FROM build AS test
RUN scripts/setup.sh --with test && scripts/build.sh release -- -DSCONCE_BUILD_TESTS=ON
RUN ctest --test-dir build --output-on-failure

FROM debian:12-slim AS runtime
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends libgrpc++1.51 libprotobuf32 libabsl20220623 librocksdb7.8 libssl3 libxxhash0 libisal2 libtorch1.13 libopenblas0-openmp \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-log-init --no-create-home --home-dir /var/lib/sconce --shell /usr/sbin/nologin sconce \
 && install -d -o sconce -g sconce -m 0750 /var/lib/sconce
COPY --from=build /src/build/bin/sconced /src/build/bin/sconce /src/build/bin/sconce-torch-worker /usr/local/bin/
USER sconce
WORKDIR /var/lib/sconce
VOLUME /var/lib/sconce
EXPOSE 7433
ENV SCONCE_TARGET=127.0.0.1:7433
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["sconce", "health"]
ENTRYPOINT ["sconced"]
CMD ["--data-dir", "/var/lib/sconce", "--listen", "0.0.0.0:7433"]
