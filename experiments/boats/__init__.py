"""S3: do boats and water birds need water? Swaps with boxes, the audit without, and water with nothing in it."""
