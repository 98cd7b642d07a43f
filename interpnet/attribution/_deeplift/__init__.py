"""DeepLIFT: linear, rescale and RevealCancel."""
