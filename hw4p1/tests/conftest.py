"""What all tests of hw4p1 share."""

import hypothesis
import torch

# The same examples in each run, and no failure because a machine is busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
torch.set_num_threads(1)  # the tensors are tiny, and a second thread would only wait for a busy core
