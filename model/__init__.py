"""The network and all that is done with it: pure torch and MONAI, no Ray, SQL, zarr or HTTP."""
