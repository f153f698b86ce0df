"""A look at what a data loader gives."""

from torch.utils.data import DataLoader

from ..reading import printable

NAMES = {
    3: ("shifted", "golden", "lengths"),
    5: ("features", "shifted", "golden", "feature lengths", "transcript lengths"),
}


def verify_dataloader(dataloader: DataLoader) -> None:
    """Print sizes: of the partition, of a batch, of the longest item and of a token."""
    dataset = dataloader.dataset
    batch = next(iter(dataloader))
    batches = f"{len(dataloader):,} batches of {dataloader.batch_size}"
    print(printable(f"partition {dataset.partition}: {batches}"))
    named = zip(NAMES[len(batch)], batch, strict=True)
    shapes = [f"{name} {tuple(item.shape)}" for name, item in named if item is not None]
    print(f"  {', '.join(shapes)}")
    if hasattr(dataset, "feat_max_len"):
        print(f"  longest utterance: {dataset.feat_max_len} frames")
    if dataset.text_max_len:
        print(f"  longest transcript with SOS or EOS: {dataset.text_max_len} tokens")
        print(f"  characters per token: {dataset.get_avg_chars_per_token():.2f}")
