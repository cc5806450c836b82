"""A TorchScript module in MLServer, for serving_bench.py: its runtime, which MLServer loads by name from this file's folder."""

import mlserver
import torch
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class TorchScript(mlserver.MLModel):
    async def load(self):
        self.module = torch.jit.load(self.settings.parameters.uri).eval()
        return True

    async def predict(self, payload):
        inputs = [torch.from_numpy(NumpyCodec.decode_input(one)) for one in payload.inputs]
        with torch.inference_mode():
            y = self.module(*inputs)
        return InferenceResponse(model_name=self.name, model_version="1", outputs=[NumpyCodec.encode_output("OUTPUT__0", y.numpy())])
