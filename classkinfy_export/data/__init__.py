"""Data sets: HAM10000, ISIC 2018, PAD-UFES-20; lesion-grouped splits; the severity proxy.

::

    lesion, dermoscope, synthetic   drawing lesions, photographing them, writing a data set
    folder    one scan of a folder: tables, images, masks
    records   a layout's table, checked and joined to the images
    ham10000, pad_ufes   the layouts
    dataset   opening one, its fingerprint, decoding every image
    splits    train, val, calib, test; no lesion in two parts
    severity  features on the lesion mask, the proxy grade, a user's own grades

Import the module you need: drawing lesions works without pandas, reading data sets does not.
"""
