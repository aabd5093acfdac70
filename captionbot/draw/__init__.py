"""Pictures of captions: overlays, sheets, beam trees, reports."""
