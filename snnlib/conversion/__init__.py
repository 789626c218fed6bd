"""A trained ReLU network becomes a spiking one."""
