"""How fast it is: `python -m benchmarks`. All modules here are programs, which import torch."""

from captionbot import host

host.prepare()
