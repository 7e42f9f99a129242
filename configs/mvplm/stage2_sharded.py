# Stage 2 on GPUs of 24 to 40 GB: parameters, gradients and optimizer state are shared out among
# the processes (torch's fully_shard), activations of the LLM are recomputed, two images at a time.
_base_ = ['./stage2.py']
runner_type = 'ShardedRunner'
model = dict(llm=dict(split_by_length=False))
train_dataloader = dict(batch_size=2)
