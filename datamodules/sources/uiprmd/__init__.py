"""UI-PRMD (Vakanski et al., Data 2018): ten rehabilitation exercises of ten people, by Vicon and Kinect v2 at once."""

SUMMARY = "UI-PRMD: rehabilitation exercises by Vicon and Kinect, public domain"
PAGE = "https://webpages.uidaho.edu/ui-prmd/"
SOURCE = "ZIP_OR_FOLDER..."
