"""Installed packages for tests."""


def install(folder, monkeypatch, points):
    """Put ``folder`` on the path, with the metadata and entry points that pip would write for the modules in it."""
    metadata = folder / "my_ideas-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-ideas\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(folder)
