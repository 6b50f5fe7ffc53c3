"""The off-line kit: one archive for each platform, to install without network or administrator rights."""
