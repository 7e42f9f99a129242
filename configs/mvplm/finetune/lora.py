# Fine-tuning with LoRA: low-rank adapters in the LLM's attention and the perception parts train,
# for one GPU of 24 GB. See full.py for the rest.
_base_ = 'full.py'
model = dict(llm=dict(
    train_embeddings=True,
    lora=dict(r=16, alpha=32, dropout=0.05, target_modules=['q_proj', 'k_proj', 'v_proj'])))

optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_dataloader = dict(batch_size=1)
