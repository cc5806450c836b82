#!/usr/bin/env bash
# Makes a virtual environment with the libraries that the package fits in, beside the PyTorch that the system has: Lightning, and Hugging Face's
# transformers with accelerate. PyTorch itself is never installed: from PyPI it would be gigabytes.
#
#   client/python/tools/fits_env.sh FOLDER [PYTHON]            then: FOLDER/bin/python -m pytest client/python/tests/fits
#
# Needs the network the first time. Which releases: the newest ones that the PyTorch there is still fits.
set -euo pipefail

folder=${1:?"fits_env.sh: which folder?"}
python=${2:-/usr/bin/python3}

version=$("$python" -W ignore -c 'import torch; print("%d%02d" % tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])))' 2>/dev/null)
# What depends on PyTorch, and is installed without what it depends on; and what does not.
if ((version >= 208)); then
  bare=(pytorch-lightning==2.6.6 torchmetrics==1.9.0 transformers==5.24.0 accelerate==1.15.0)
  others=(tokenizers==0.23.3 huggingface-hub==2.4.0 typer 'regex>=2025.10.22' 'safetensors>=0.8')
elif ((version >= 204)); then
  bare=(pytorch-lightning==2.6.6 torchmetrics==1.9.0 transformers==4.57.1 accelerate==1.15.0)
  others=(tokenizers==0.22.1 huggingface-hub==0.36.0)
else
  bare=(pytorch-lightning==2.2.5 torchmetrics==1.4.3 transformers==4.44.2 accelerate==0.33.0)
  others=(tokenizers==0.19.1 huggingface-hub==0.36.0)
fi
others+=(lightning-utilities safetensors regex packaging fsspec filelock tqdm pyyaml requests typing-extensions psutil)

wanted="${bare[*]} ${others[*]}"
if [[ -e $folder/.ready && $(cat "$folder/.ready") = "$wanted" ]]; then exit 0; fi
rm -rf "$folder"
"$python" -m venv --system-site-packages "$folder"
"$folder/bin/python" -m pip install -q "${others[@]}"
"$folder/bin/python" -m pip install -q --no-deps "${bare[@]}"
"$folder/bin/python" -W ignore -c '
import accelerate, pytorch_lightning, torch, transformers
print("fits_env: PyTorch", torch.__version__, "Lightning", pytorch_lightning.__version__, "transformers", transformers.__version__)'
echo "$wanted" >"$folder/.ready"
