"""One thread for every test: the machine may be shared, and sums keep their order."""

import torch

torch.set_num_threads(1)
