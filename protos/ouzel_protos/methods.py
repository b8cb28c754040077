"""The names of the saliency methods, for those who check one without loading torch."""

METHODS = (
    "gradient",
    "guided",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_grad_cam",
    "layer_cam",
    "occlusion",
    "rise",
)
