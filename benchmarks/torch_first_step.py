"""The peer of ``first_step.py``: AFIU in PyTorch from nothing to one step."""

import torch
from torch_networks import AFIU

model = AFIU().train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
images, masks = torch.randn(2, 3, 160, 160), torch.rand(2, 1, 160, 160).round()
torch.nn.functional.binary_cross_entropy_with_logits(model(images), masks).backward()
optimizer.step()
print("step 1", flush=True)
