"""What a program may call on images and regions: geometry, morphology, measurement, registration. Never torch."""
