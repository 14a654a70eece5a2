"""A plain Flower app (PyTorch) with FedRMS swapped in for FedAvg."""
