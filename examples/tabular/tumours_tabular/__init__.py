"""A Flower app for a table and a yes or no (PyTorch), with FedRMS for FedAvg."""
