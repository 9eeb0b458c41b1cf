"""vLLM from inside: a plug-in that marks its steps and its requests. Off unless LAPTIME_VLLM names a folder."""
