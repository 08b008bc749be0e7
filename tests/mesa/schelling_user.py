# Schelling segregation, from my course notes. Run it alone:  python schelling_user.py
import mesa


class Household(mesa.Agent):
    def __init__(self, model, kind, spot):
        super().__init__(model)
        self.kind = kind
        self.spot = spot
        self.moves = 0

    def similar_share(self):
        same = total = 0
        for other in self.model.neighbours(self.spot):
            total += 1
            same += other.kind == self.kind
        return same / total if total else 1.0

    @property
    def happy(self):
        return self.similar_share() >= self.model.homophily

    def step(self):
        if not self.happy:
            self.model.relocate(self)


class Schelling(mesa.Model):
    """Households of two kinds that move if too few of their neighbours are like them."""

    def __init__(self, size=12, density=0.8, minority=0.4, homophily=0.4, seed=None):
        super().__init__(seed=seed)
        self.size, self.homophily = size, homophily
        self.grid = {(x, y): None for x in range(size) for y in range(size)}
        for spot in self.grid:
            if self.random.random() < density:
                kind = 1 if self.random.random() < minority else 0
                self.grid[spot] = Household(self, kind, spot)
        self.datacollector = mesa.DataCollector(
            model_reporters={
                "happy": lambda m: sum(a.happy for a in m.agents) / len(m.agents),
                "segregation": lambda m: sum(m.agents.map("similar_share")) / len(m.agents),
                "map": lambda m: "".join(
                    " " if a is None else "ox"[a.kind] for a in m.grid.values()
                ),
            },
            agent_reporters={"moves": "moves"},
        )
        self.datacollector.collect(self)

    def neighbours(self, spot):
        x, y = spot
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                other = self.grid[(x + dx) % self.size, (y + dy) % self.size]
                if (dx or dy) and other is not None:
                    yield other

    def relocate(self, household):
        free = self.random.choice([spot for spot, who in self.grid.items() if who is None])
        self.grid[household.spot], self.grid[free] = None, household
        household.spot = free
        household.moves += 1

    def step(self):
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)
        self.running = not all(a.happy for a in self.agents)


if __name__ == "__main__":
    model = Schelling(seed=1)
    while model.running and model.steps < 50:
        model.step()
    print(model.datacollector.get_model_vars_dataframe()[["happy", "segregation"]])
else:
    import mores

    mores.register("environment", "schelling", Schelling)
