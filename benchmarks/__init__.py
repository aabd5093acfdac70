"""How fast it is: `python -m benchmarks`."""

import captionbot  # noqa: F401  (before torch: it says how threads wait)
