"""The node: receives studies, runs VoxelPrompt on them, and sends back DICOM SEG and structured reports."""

__version__ = "0.1.0"
