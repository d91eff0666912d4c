"""From an official DoSSR checkpoint to a bundle of ONNX graphs. torch lives only here.

python -m export.build --checkpoint model.ckpt --precision fp32 --out bundles/dossr-fp32
"""
