"""How a device runs a captioner: compiled for GPUs, packed for CPUs."""
