"""The house itself, measured: how plainly the code is written."""
