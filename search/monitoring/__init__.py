"""What is shown while a run trains: progress, TensorBoard, the live front, the mirror at a URI.

Observers of trainings; nothing here decides. May use execution, study, analysis and run_store.
"""
