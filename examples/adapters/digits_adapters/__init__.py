"""A Flower app that trains low-rank adapters of a frozen model, with FedRMS for FedAvg."""
