#!/usr/bin/env bash
# The tour of README.md, run for real on a temporary store, with checks: PyTorch judges every file and every answer that comes out.
# Prints what it does; exit code 0 only if everything was right.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --with build --with torch --with test
scripts/build.sh release sconced sconce sconce-torch-worker

python=/usr/bin/python3
export PATH=$PWD/build/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
work=$(mktemp -d "${TMPDIR:-/tmp}/sconce-demo-XXXXXX")
server=
cleanup() {
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then kill "$server"; wait "$server" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
steps=0
step() { steps=$((steps + 1)); printf '\n%s%d. %s%s\n' "$bold" "$steps" "$*" "$plain"; }
show() { printf '   $ %s\n' "${*//$work\//}"; "$@" 2>&1 | sed "s|$work/||g; s/^/     /"; }
right() { printf '   ok: %s\n' "$*"; }
wrong() { printf '   WRONG: %s\n' "$*"; exit 1; }
judge() { $python scripts/demo_judge.py "$@" | sed 's/^/   ok: /'; }

step "Start sconced on an empty store"
echo "   \$ sconced --data-dir store --listen 127.0.0.1:0"
sconced --data-dir "$work/store" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 >"$work/ready" 2>"$work/log" &
server=$!
for _ in $(seq 600); do
  [[ -s $work/ready ]] && break
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; wrong "sconced ended"; }
  sleep 0.05
done
sed 's/^/     /' "$work/ready"
SCONCE_TARGET=$(grep -o '127\.0\.0\.1:[0-9]*' "$work/ready" | head -1)
export SCONCE_TARGET
show sconce health

step "Push files that torch.save wrote, one of them on GPUs"
show sconce push tests/data/cuda_mixed.pt resnet
show sconce push tests/data/state_dict.pt resnet --epoch 5 --metric loss=0.31
show sconce push tests/data/general_sgd.tar tutorial
show sconce runs
show sconce ls resnet

step "Look into one"
show sconce show resnet@best --exclude '/optimizer_state_dict'

step "Fetch the best, which was saved on GPUs, onto this CPU"
show sconce pull resnet@best -o "$work/best.pt" --map-location cpu
judge mapped "$work/best.pt" tests/data/cuda_mixed.pt
show sconce pull tutorial@latest -o "$work/back.tar"
judge same "$work/back.tar" tests/data/general_sgd.tar

step "Refuse what would run code"
if show sconce push tests/data/evil_system.pt resnet; then wrong "it took a pickle that calls os.system"; fi
right "nothing a client sends is executed"

step "Deploy a TorchScript module with the weights of a checkpoint, and ask it"
show sconce module push tests/data/bnnet_scripted_train_mode.pt bnnet@net
show sconce push tests/data/bnnet_trained.pt bnnet
show sconce model deploy bnnet --module bnnet@net --weights bnnet@best --path /model_state_dict
show sconce infer bnnet --input "x=tests/data/bnnet_io.pt#/x"
sconce infer bnnet --input "x=tests/data/bnnet_io.pt#/x" -o json >"$work/answer.json"
judge answer "$work/answer.json" tests/data/bnnet_io.pt

step "Train a network that pushes every epoch, while another process serves the best"
echo "   \$ examples/serve_best.py --run cnn &"
PYTHONPATH=client/python PYTHONDONTWRITEBYTECODE=1 $python examples/serve_best.py --target "$SCONCE_TARGET" --run cnn >"$work/served" &
serving=$!
echo "   \$ examples/train_loop.py --run cnn"
PYTHONPATH=client/python PYTHONDONTWRITEBYTECODE=1 $python examples/train_loop.py --target "$SCONCE_TARGET" --run cnn | sed 's/^/     trains: /'
wait "$serving" || wrong "serve_best.py failed"
sed 's/^/     serves: /' "$work/served"
show sconce ls cnn
best=$(sconce show cnn@best -o name)
tail -1 "$work/served" | grep -q "best is version ${best##*[/@]}\$" || wrong "it does not serve $best"
right "it serves ${best}, the best, not the latest"

if grpcurl=$(command -v grpcurl); then
  step "The same with grpcurl"
  show "$grpcurl" -plaintext -d '{"name": "projects/default/runs/cnn/checkpoints/best"}' "$SCONCE_TARGET" sconce.v1.CheckpointService/GetCheckpoint
  show "$grpcurl" -plaintext -d '{"name": "bnnet"}' "$SCONCE_TARGET" inference.GRPCInferenceService/ModelMetadata
fi

step "Stop"
kill "$server"
if wait "$server"; then right "sconced drained and ended with 0"; else wrong "sconced ended with $?"; fi
server=
printf '\n%sAll %d steps were right.%s\n' "$bold" "$steps" "$plain"
