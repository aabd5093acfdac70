"""Many photos: folders, records, Ray Data."""
