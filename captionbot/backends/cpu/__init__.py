"""CPU precision and weight packing."""
