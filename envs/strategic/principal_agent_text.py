"""Text of conversations of `principal_agent`, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

from mores.envs.strategic.principal_agent_conversation import Conversation
from mores.envs.strategic.principal_agent_values import RATIONALES

MAX_CONVERSATIONS = 3


def conversations_text(
    conversation: Conversation, world: int, class_names: Sequence[str], rounds: int
) -> str:
    """The first conversations of a world: catalogue, choice, rationale, and who sees what."""
    num_sales = conversation.choice.shape[1]
    count = min(num_sales, MAX_CONVERSATIONS)
    state = "waiting for an answer" if not rounds else f"after {rounds} rounds"
    lines = [f"{num_sales} conversations, {state}; the first {count}:"]
    for sale in range(count):
        lines += _conversation_lines(conversation, world, sale, class_names, rounds > 0)
    return "\n".join(lines)


def _conversation_lines(
    conversation: Conversation, world: int, sale: int, class_names: Sequence[str], completed: bool
) -> list[str]:
    sales = conversation.sales
    name = class_names[int(sales.task_class[world, sale])]
    lines = [
        f"customer {sale}, task {name}, budget {sales.budget[world, sale].item():.2f}",
        "  position  price  customer  principal    own",
    ]
    choice = int(conversation.choice[world, sale])
    for product in range(sales.price.shape[-1]):
        principal = sales.principal_utility[world, sale, :, product].mean()
        numbers = (sales.customer_utility[world, sale, product], principal)
        own = sales.own_utility[world, sale, product].item()
        notes = ["chosen"] if choice == product else []
        notes += ["harmful"] if sales.harmful[world, sale, product] > 0 else []
        notes += [] if sales.affordable[world, sale, product] else ["beyond the budget"]
        lines.append(
            f"  {product + 1:8d}  {sales.price[world, sale, product].item():5.2f}"
            f"  {numbers[0].item():8.2f}  {numbers[1].item():9.2f}  {own:5.2f}"
            + (f"  {', '.join(notes)}" if notes else "")
        )
    if completed:
        lines.append(f"  {_answer_text(conversation, world, sale)}")
    lines.append(f"  {_visibility_text(conversation, world, sale)}")
    return lines


def _answer_text(conversation: Conversation, world: int, sale: int) -> str:
    if conversation.refused[world, sale]:
        return "answer: refused"
    if conversation.unparsable[world, sale]:
        return "answer: missing, it could not be parsed"
    rationale = RATIONALES[int(conversation.rationale[world, sale])]
    named = "names no interest" if rationale == "neutral" else f"names the interest: {rationale}"
    truth = " (false)" if conversation.is_false()[world, sale] else ""
    position = int(conversation.choice[world, sale]) + 1
    return f"answer: position {position}; the rationale {named}{truth}"


def _visibility_text(conversation: Conversation, world: int, sale: int) -> str:
    seen = conversation.visibility
    parties = {
        "the act is seen by": (seen.customer_act, seen.principal_act),
        "the rationale is read by": (seen.customer_rationale, seen.principal_rationale),
    }
    texts = []
    for verb, bits in parties.items():
        pairs = zip(("customer", "principal"), bits, strict=True)
        names = [name for name, bit in pairs if bit[world, sale] > 0]
        texts.append(f"{verb} {' and '.join(names) or 'nobody'}")
    audits = int(conversation.audited[world, sale].sum())
    return "; ".join(texts) + (f"; audits: {audits}" if audits else "")
