"""A look at what a data loader gives."""

from torch.utils.data import DataLoader

from ..reading import printable


def verify_dataloader(dataloader: DataLoader) -> None:
    """Print sizes: of the partition, of a batch, of the longest transcript and of a token."""
    dataset = dataloader.dataset
    shifted, golden, lengths = next(iter(dataloader))
    batches = f"{len(dataloader):,} batches of {dataloader.batch_size}"
    print(printable(f"partition {dataset.partition}: {batches}"))
    print(
        f"  shifted {tuple(shifted.shape)}, golden {tuple(golden.shape)}, lengths "
        f"{tuple(lengths.shape)}"
    )
    print(f"  longest transcript with SOS or EOS: {dataset.text_max_len} tokens")
    print(f"  characters per token: {dataset.get_avg_chars_per_token():.2f}")
