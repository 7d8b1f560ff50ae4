"""Evaluates retrieval on data in BEIR layout, with the metrics of ir-measures, and replies to dialogues.

    python -m docproduct.evaluate retrieval --model_dir=model --beir_dir=beir --split=dev
    python -m docproduct.evaluate report --systems=bm25,zero-shot=ENCODER,ours=model --beir_dir=beir --output_dir=report
    python -m docproduct.evaluate chat --prepared_dir=dialogues --model_dir=ENCODER --index_dir=facts_index \
        --base_dir=MODEL --generator_dir=adapter --output_dir=report

`retrieval` scores one system, `report` compares several (report.py), `chat` scores replies (chat.py).
"""

from docproduct.evaluate.ranking import EvaluationSettings, measure, merge_equal_documents, retrieval

__all__ = ["EvaluationSettings", "measure", "merge_equal_documents", "retrieval"]
