"""MobileNets as classifiers: predict, measure, train on an image folder, and so make a backbone for a detector."""
