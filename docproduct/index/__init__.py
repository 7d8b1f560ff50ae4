"""The index: vectors of answers and of questions, or of passages of documents, with the texts they belong to.

    python -m docproduct.index --model_dir=/tmp/model --prepared_dir=/tmp/prepared --index_dir=/tmp/index

--prepared_dir may be given several times: pairs and passages then stand in one index.

    manifest.json          written last: fingerprint of the encoder, settings, counts
    answers.faiss          one vector a passage of an answer, under its passage_id
    questions.faiss        one vector a pair, under its pair_id
    *.vectors.npy          their exact vectors, of a factory that ends in RFlat, such as the one for many vectors
    answers.bm25 questions.bm25   if BM25 is used
    pairs.parquet          texts and groups, one row a pair or passage of a document, which has no question
    passages.parquet       passage_id and pair_id, one row a passage
    *_encoder.npy *_head.npy   with --export_embeddings: BERT's vectors and the heads', in the order of the Parquet rows

An answer is one passage (its first tokens) or several overlapping ones. A hit is the best passage of an answer, and
equal answers are one hit. A passage of a document is embedded under its title and section. build.py makes an index of
texts, precomputed.py of vectors that you have; calibrating.py decides which questions it answers, folder.py writes it,
open.py searches it, reranking.py reads the hits with a reranker, live.py changes its pairs while it is searched,
and compaction.py writes the changed folder anew. upload.py uploads the folder to a database, where store_index.py
searches it. Here the retriever meets docproduct/search, which knows no model.
Ends with one line of JSON: the counts.
"""

from docproduct.index.build import build
from docproduct.index.open import Hit, Index, SearchResult
from docproduct.index.precomputed import build_from_vectors
from docproduct.index.settings import IndexSettings
from docproduct.index.vector_table import VectorTable

__all__ = ["Hit", "Index", "IndexSettings", "SearchResult", "VectorTable", "build", "build_from_vectors"]
