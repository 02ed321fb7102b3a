"""CL-Net platform: continual learning for whole-body CT segmentation."""
