# Stage 2 where GPUs of 24 to 40 GB run out of memory: FSDP (torch's fully_shard) shards parameters,
# gradients and optimizer state over the ranks; gradient checkpointing; two images per forward pass.
_base_ = ['./stage2.py']
runner_type = 'ShardedRunner'
model = dict(llm=dict(split_by_length=False))
train_dataloader = dict(batch_size=2)
