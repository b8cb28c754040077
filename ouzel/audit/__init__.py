"""Auditing: does a prediction rest on the object, or on what is behind it?

A saliency map nominates regions. Paired changes of the image decide: what happens to the prediction if the background is
replaced, against a control that changes as many pixels and leaves the evidence in place.
"""
