"""What several tests share: networks, images, a small audit."""
