"""Speech data: audio and features on disk, and fairseq's ``examples/speech_recognition``."""
