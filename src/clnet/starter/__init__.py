"""The starter release: a frozen encoder, a body-part model and decoders to add anatomies to."""
