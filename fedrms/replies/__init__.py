"""What clients said: replies read, checked, named and stacked."""
