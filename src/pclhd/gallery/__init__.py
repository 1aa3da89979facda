"""A gallery: images of people that were embedded once and can be searched, by camera, time and modality."""
