"""The lab: claims about RMSProp and FedRMS, each tried on the same tasks, clients and engines."""
