"""Packaging: `pip install -e '.[cpu]'`, or `.[gpu]`; never both, as faiss-cpu and faiss-gpu overwrite each other."""

from setuptools import find_packages, setup

# Minor versions are the tested ones.
setup(
    name="docproduct",
    version="0.1.0",
    description="Turns a table of questions and answers into a question-answering system (BERT, FAISS, GPT-2).",
    packages=find_packages(include=["data_pipeline", "data_pipeline.*", "docproduct", "docproduct.*"]),
    package_data={
        "data_pipeline": ["boilerplate.txt"],
        "docproduct.answering.evidence": ["fitted.json"],
        "docproduct.grounding": ["adapter/*"],
        "docproduct.sample": ["emergency.txt", "pairs.csv"],
        "docproduct.web": ["choices.js", "page.css", "page.html", "page.js", "panel.js", "triage.js"],
    },
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.3,<3",
        "bm25s==0.3.*",
        "datasketch==2.0.*",
        "fastapi==0.165.*",
        "fastapi-swagger==0.4.*",  # Swagger's files, so that the page of the API asks no other host for them
        "filelock>=4,<5",
        "gguf>=0.19,<1",
        "google-crc32c>=1.7,<2",
        "ir-measures==0.4.*",
        "jinja2>=3.1.6,<4",  # older ones have ways out of the sandbox
        "keras==3.15.*",
        "keras-nlp==0.32.*",
        "limits==5.*",
        "matplotlib==3.11.*",
        "numpy==2.4.*",
        "prometheus-client==0.26.*",
        "pydantic>=2.11,<3",
        "pyarrow==26.*",
        "sacrebleu>=2.5,<3",
        "safetensors==0.8.*",
        "scikit-learn>=1.7,<2",
        "selectolax==1.0.*",
        "tensorflow==2.21.*",
        "tensorflow-text>=2.21.1,<2.22",  # 2.21.0 fails at import
        "tokenizers==0.23.*",
        "tqdm>=4.67,<5",
        "uvicorn==0.54.*",
        "xxhash>=3.5,<5",
        "zstandard>=0.23,<1",
    ],
    extras_require={
        "cpu": ["faiss-cpu==1.15.*"],
        "gpu": ["faiss-gpu==1.15.*", "tensorflow[and-cuda]==2.21.*"],
        "generate": ["openai>=3.57,<4"],
        "tensorboard": ["tensorboard==2.21.*"],
        "documents": ["pypdfium2==5.*", "trafilatura==2.*"],
        "xlsx": ["python-calamine>=0.6,<1"],
        "dev": [
            "axe-core-python==0.1.*",
            "httpx==0.28.*",
            "nbclient==0.11.*",
            "ipykernel>=7",
            "openai>=3.57,<4",
            "pypdfium2==5.*",
            "pytest==9.*",
            "pytest-xdist==3.*",
            "python-calamine>=0.6,<1",
            "regex>=2026.1",
            "ruff==0.17.*",
            "schemathesis==4.*",
            "selenium>=4.51,<5",
            "trafilatura==2.*",
        ],
    },
)
