"""What is particular to speech: audio and features on disk, fairseq's own speech examples."""
