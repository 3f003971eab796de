"""Arguments of the two speech recipes."""

S2T = ("--arch", "s2t_transformer_s", "--max-tokens", 2000)
VGG = ("--arch", "vggtransformer_1", "--max-tokens", 2000)
DISTIL_S2T = ("--task", "distill_speech_to_text", *S2T)
DISTIL_VGG = ("--task", "distill_speech_recognition", *VGG)
PD_SEND2 = ("--criterion", "pd_send2", "--teacher-paths")
