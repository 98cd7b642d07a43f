"""What every room uses: files, progress, seeds, checks and types."""
