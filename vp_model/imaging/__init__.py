"""What a program may call on images and regions: geometry, morphology, measurement. numpy and scipy, never torch."""
