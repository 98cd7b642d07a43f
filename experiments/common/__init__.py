"""What several experiments share: networks, data, pages, claims."""
