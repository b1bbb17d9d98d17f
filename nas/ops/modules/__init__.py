"""The operations as self-contained torch modules; an export prints their source, so they import torch alone."""
